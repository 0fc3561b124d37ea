"""Generator of the schemas in asyncapi.yaml and of result.schema.json from the types.

`python -m stream.protocol.schemas` writes both files, `--check` compares them. For developers:
the server does not import it, and it needs PyYAML.
"""
