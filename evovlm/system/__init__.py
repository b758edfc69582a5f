"""Shared basics: errors, files, processes, devices, statistics, progress. Imports no other package of evovlm."""
