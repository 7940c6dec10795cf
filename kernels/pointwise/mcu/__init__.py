"""Element by element on microcontrollers."""
