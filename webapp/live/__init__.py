"""The live socket: nudges, frames from the database after ``since``, and a limit on sockets per person."""
