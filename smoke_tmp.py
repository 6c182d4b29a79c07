import time, sys, random
from pathlib import Path
import tempfile
from tests.support.exchange_process import *
from tests.support.order_flow import *
import tests.support.exact_reader as er
er._SHARE_OF_LISTS=1.0
folder=Path(tempfile.mkdtemp())
seed=int(sys.argv[1]); dup=sys.argv[2]=="dup"
chance=random.Random(seed)
flows = [flow_of(chance.randrange(10**9), 150, users=(f"u{n}", f"v{n}"), items_max=30) for n in range(6)]
if dup: flows.append(flows[0])
with Exchange(folder) as x:
    x.wait_until_equal()
    with Load(x.engine_address, *flows, pause_seconds=0.1) as load:
        readers=[er.ExactReader(x.history_address, load, n) for n in range(3)]
        for r in readers: r.start()
        load.finish()
        for r in readers:
            r._leaving.set(); r.join(); print(r.lists, repr(r.failure)[:1500])
