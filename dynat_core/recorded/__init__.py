"""What is recorded, as plain arrays and as bytes: epochs' records, histograms, samples, paths. No torch, no folders."""
