"""What truetape is measured against: the founding client and gateway, the best Go, cryptofeed, and a bare floor."""
