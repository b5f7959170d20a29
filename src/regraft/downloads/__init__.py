"""Download files from the web, and unpack .zip and .tar archives with limits on the disk space and time they take."""
