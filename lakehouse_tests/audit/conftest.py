from lakehouse_tests.layers.own import make_stream, shared_lake

__all__ = ["make_stream", "shared_lake"]
