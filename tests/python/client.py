"""A user of the telehealth application with python-socketio: `client.py <url> <token> <room> <transports> <count> [parser]`.

Joins, says `ready`, sends `count` messages, and prints each event as a line of JSON until its stdin closes.
"""

import asyncio
import json
import sys

import socketio


def say(event, data):
    print(json.dumps([event, data]), flush=True)


async def main(url, token, room, transports, count, parser="default"):
    client = socketio.AsyncClient(reconnection=False, serializer=parser)
    for event in ("connected", "message:new", "message:sent"):
        client.on(event, lambda data, event=event: say(event, data))
    await client.connect(url, auth={"token": token}, transports=transports.split(","))
    joined = await client.call("room:join", {"roomId": room, "roomType": "topic"}, timeout=10)
    say("joined", joined)
    say("transport", client.transport())
    for n in range(int(count)):
        ack = await client.call("message:send", {"roomId": room, "message": f"python#{n}"}, timeout=10)
        say("acked", ack)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))
