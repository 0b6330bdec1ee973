"""Estimates in, what people look at out. It formats and computes nothing."""
