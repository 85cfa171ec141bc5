"""A report to send on: a page of what runs came to, on what it rests, how to have it again."""
