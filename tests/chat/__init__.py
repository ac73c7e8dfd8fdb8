"""Tests of conversations and of what answers them."""
