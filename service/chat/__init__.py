"""Chat completions: from the request to the decoder, and back."""
