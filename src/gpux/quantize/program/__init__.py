"""The program that reduces the precision of stored graphs."""
