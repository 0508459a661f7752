"""What storage formats share: jobs, runs and chunks, and the regions they are packed into."""
