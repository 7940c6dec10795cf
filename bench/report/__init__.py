"""What people read: tables and plots."""
