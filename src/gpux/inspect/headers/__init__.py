"""What the headers of weight files tell, read by ranges: no weights travel, nothing is loaded and nothing executed."""
