"""Small games and small models: one thread is fastest, and two collapse when tests share the machine."""

import torch

torch.set_num_threads(1)
