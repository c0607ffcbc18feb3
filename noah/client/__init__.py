"""The gateway's HTTP API as a client sees it: light to import, nothing of the server.

It blocks, over urllib3: a command of the command line asks one thing at a time, and importing aiohttp would cost each
of them 100 to 150 ms of CPU more than urllib3 does. A failure is raised as one of noah.errors, with a sentence.
"""
