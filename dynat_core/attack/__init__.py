"""The eps-ball, FOSC, and every attack. Tensors in, tensors out; nothing here knows of folders or processes."""
