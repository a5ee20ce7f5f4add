"""What the data is: the recording's layout, the tables' columns, the configuration. No torch, dask or prefect."""
