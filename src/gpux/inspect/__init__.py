"""What file names, headers, configurations and cards say about a model. Pure: nothing is downloaded."""
