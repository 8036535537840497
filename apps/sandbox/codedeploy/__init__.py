"""CodeDeploy for in-place deployments to on-premises and EC2 instances, and the agent on each host.

The agent follows version 1.8.1 of https://github.com/aws/aws-codedeploy-agent.
"""
