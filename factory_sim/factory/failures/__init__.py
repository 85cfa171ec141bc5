"""What breaks, what that takes down with it, and how it comes back."""
