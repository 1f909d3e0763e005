"""The live socket: nudges, frames from the database after ``since``, and the seats that people hold."""
