"""What a Deep-Compression network costs on mobile-class hardware."""
