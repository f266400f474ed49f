"""What a checkpoint holds, how it is captured and how it is put back."""
