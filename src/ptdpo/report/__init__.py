"""Pages that a person opens: self-contained HTML, no network."""
