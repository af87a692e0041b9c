"""Images of every form of input - folders, tars, parquet with bytes or URIs - as one stream of places and sizes."""
