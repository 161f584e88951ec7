"""One libtorrent peer of the benchmark: `torrent.py seed|leech TORRENT FOLDER ADDRESS BEGIN PEER…`.

The seed makes the torrent of FOLDER/file first. A leech begins at the time BEGIN (seconds since 1970,
so that loading Python is not measured), prints the seconds it took, and goes on seeding until killed.
"""

import sys
import time

import libtorrent


def make_torrent(path, folder):
    storage = libtorrent.file_storage()
    libtorrent.add_files(storage, folder + "/file")
    torrent = libtorrent.create_torrent(storage)
    libtorrent.set_piece_hashes(torrent, folder)
    with open(path, "wb") as out:
        out.write(libtorrent.bencode(torrent.generate()))


def main():
    role, torrent, folder, address, begin, *peers = sys.argv[1:]
    session = libtorrent.session({
        "listen_interfaces": address + ":6881",
        # All peers are handed in: nothing is looked for.
        "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
        # TCP fills the lab's links better than uTP, which backs off before a queue.
        "enable_outgoing_utp": False, "enable_incoming_utp": False,
        "alert_mask": 0,
    })
    if role == "seed":
        make_torrent(torrent, folder)
    else:
        time.sleep(max(0, float(begin) - time.time()))
    params = libtorrent.add_torrent_params()
    params.ti = libtorrent.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~libtorrent.torrent_flags.paused
    params.flags &= ~libtorrent.torrent_flags.auto_managed
    handle = session.add_torrent(params)
    for peer in peers:
        handle.connect_peer((peer, 6881))
    while not handle.status().is_seeding:
        time.sleep(0.01)
    if role == "seed":
        print("seeding", flush=True)
    else:
        print(time.time() - float(begin), flush=True)
    time.sleep(3600)


main()
