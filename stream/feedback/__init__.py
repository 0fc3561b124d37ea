"""Labels from the people who listen: utterances that can be marked, marks on disk, their export."""
