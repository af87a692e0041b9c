"""The page that compares recipes: its numbers, plots and pictures, and one self-contained HTML file."""
