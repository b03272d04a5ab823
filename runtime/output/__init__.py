"""What becomes of hits: files, notation, the report page, programs that read along."""
