"""Starting and stopping a whole system on one machine, and finding one that runs."""
