"""What every room stands on: errors, files, processes, devices, statistics, progress. Imports no other room."""
