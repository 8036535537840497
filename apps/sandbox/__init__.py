"""An embedded AWS: CodeBuild, CodeDeploy and load balancers that really run, and what moto has of the rest.

The rest of the code knows only its address (`AWS_ENDPOINT_URL`). Development and tests use it; it is not
shipped in bundles.
"""
