"""What happens to rollouts before they are trained on: resampled, read by the teacher, drawn anew under its context."""
