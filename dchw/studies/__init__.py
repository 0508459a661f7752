"""Design-space studies: a question as a table of points, run once each, and read for its knee, front and effects."""
