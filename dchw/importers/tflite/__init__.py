"""Networks from TFLite files."""
