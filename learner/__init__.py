"""What is learned from thumbs, and where it is kept."""
