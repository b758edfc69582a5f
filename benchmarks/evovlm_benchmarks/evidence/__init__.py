"""What can be said of the method: the same search on zoos of several training seeds, with several search seeds."""
