"""Code without knowledge of photos: files, the console, processes, and file formats that several folders use."""
