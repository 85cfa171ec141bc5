"""What a run recorded, read off its processes and made into what `metrics` reduces."""
