"""SSH to pods, on asyncssh: connecting with a known host key, commands, copies, and what lies in a pod."""
