"""A libtorrent peer for the benchmarks: prints "ready", starts at a line on its standard input, prints "done"."""

import json
import sys

import libtorrent as lt

options = json.loads(sys.argv[1])
utp = options["utp"]
# As generous as it gets: every peer may be served, nothing but the tracker finds them, no encryption.
session = lt.session(
    {
        "listen_interfaces": options["listen"],
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": utp,
        "enable_outgoing_utp": utp,
        "enable_incoming_tcp": not utp,
        "enable_outgoing_tcp": not utp,
        "in_enc_policy": int(lt.enc_policy.disabled),
        "out_enc_policy": int(lt.enc_policy.disabled),
        "unchoke_slots_limit": -1,
        "connections_limit": 1000,
        "connection_speed": 500,
        "torrent_connect_boost": 255,
        "allow_multiple_connections_per_ip": True,
        "max_out_request_queue": 2000,
        "max_allowed_in_request_queue": 4000,
        "send_buffer_watermark": 4 * 1024 * 1024,
        "send_buffer_low_watermark": 256 * 1024,
        "max_queued_disk_bytes": 16 * 1024 * 1024,
        "close_redundant_connections": False,
        "alert_mask": int(lt.alert.category_t.status_notification) | int(lt.alert.category_t.error_notification),
    }
)
torrent = lt.add_torrent_params()
torrent.ti = lt.torrent_info(options["torrent"])
torrent.save_path = options["folder"]
torrent.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if options["seed"]:
    torrent.flags |= lt.torrent_flags.seed_mode
print("ready", flush=True)
sys.stdin.readline()
handle = session.add_torrent(torrent)
for host, port in options["peers"]:
    handle.connect_peer((host, port))
while True:
    session.wait_for_alert(1000)
    for alert in session.pop_alerts():
        if isinstance(alert, lt.torrent_finished_alert):
            print("done", flush=True)
        elif isinstance(alert, (lt.torrent_error_alert, lt.listen_failed_alert)):
            print("error", alert.message(), flush=True)
