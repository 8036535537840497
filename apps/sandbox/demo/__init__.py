"""scripts/demo: one commit of this repository from source to serving, on this machine.

It drives everything from outside, as users do: AWS through boto3, the control plane through its commands and
through the client that the Jenkinsfile uses.
"""
