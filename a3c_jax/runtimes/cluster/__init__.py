"""Workers in several processes, on one machine or many, by Ray."""
