#!/usr/bin/env bash
# From a wheel and a folder of photos to scores on a device: every step in a fresh environment, outside of the checkout.
#
#   examples/end_to_end.sh                        photos that the package draws itself, in small; no network for models
#   examples/end_to_end.sh PHOTOS "a photo of a steel plate"     your own; takes pretrained weights from the hub
#
# PYTHON     the interpreter of the environments (default: python3)
# WORK       where everything is made (default: a new folder, which stays)
# WHEEL      the wheel to install (default: built from this checkout)
# INSTALL    words for pip, such as "-c constraints.txt"
# LIBRARIES  a site-packages folder that holds kka's libraries already: kka is installed alone, and they are read there
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
photos="${1:-}" describe="${2:-a photo of a flower}"
[ -z "$photos" ] || photos="$(cd "$photos" && pwd)"
work="${WORK:-$(mktemp -d)}"
mkdir -p "$work"
cd "$work"
work="$PWD" python="${PYTHON:-python3}"
say() { printf '\n== %s\n' "$*"; }

say "a wheel, in an environment of its own"
"$python" -m venv run
if [ -z "${WHEEL:-}" ]; then
	mkdir -p source
	cp -r "$here/src" "$here/pyproject.toml" "$here/README.md" "$here/LICENSE" source
	run/bin/pip wheel -q --no-deps -w wheel ./source
	WHEEL="$(echo "$work"/wheel/kka-*.whl)"
fi
if [ -n "${LIBRARIES:-}" ]; then
	run/bin/pip install -q --no-deps "$WHEEL"
	# A path in a .pth file comes after the environment's own packages, and .pth files in it are not read: so the kka
	# that runs is the wheel's, whatever is installed there.
	echo "$LIBRARIES" > "$(run/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/libraries.pth"
else
	# shellcheck disable=SC2086
	run/bin/pip install -q ${INSTALL:-} "kka[onnx] @ file://$WHEEL"
fi
unset PYTHONPATH
run/bin/python -c 'import kka, sys; assert kka.__file__.startswith(sys.prefix), kka.__file__; print(kka.__file__)'
kka="$work/run/bin/kka"

if [ -n "$photos" ]; then
	run_options=() train_options=(--detector simplenet --preset cpu)
else
	say "photos, drawn by the package"
	photos="$work/photos"
	mkdir -p "$photos"
	run/bin/python - "$photos" <<-'END'
		import sys
		import kka
		from PIL import Image
		for number, image in enumerate(kka.open_task("garden").normals[:40]):
		    Image.fromarray(image).save(f"{sys.argv[1]}/{number:03}.png")
	END
	run_options=(--rounds 1 --initial 16 --fresh 8 --seeds 1 --autoencoder-epochs 1 --sad.epochs 2 --sad.pretrain-epochs 1)
	train_options=(--detector sad --preset cpu --set epochs=4 milestones=)
fi

say "a run"
"$kka" run --data "$photos" --describe "$describe" --out runs/photos "${run_options[@]}"
test -s runs/photos/report.html
say "its pool, for anomalib"
"$kka" pool export runs/photos --to anomalib --out pool
ls pool
say "its page to look through pictures, asked once"
"$kka" review runs/photos --no-browser > address 2>&1 &
review=$!
run/bin/python - <<-'END'
	import pathlib, time, urllib.request
	for _ in range(300):
	    if "Ctrl-C" in (told := pathlib.Path("address").read_text()):
	        break
	    time.sleep(0.2)
	page = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(told.split()[0], timeout=30)
	print(page.status, len(page.read()), "bytes")
END
kill -TERM "$review"
wait "$review" || test $? = 143
say "a detector"
"$kka" train "${train_options[@]}" --data "$photos" --anomalies runs/photos --out detector
say "one file for the device"
"$kka" export --detector-dir detector --format onnx

say "the device: Pillow, numpy and onnxruntime alone"
"$python" -m venv device
# shellcheck disable=SC2086
device/bin/pip install -q ${INSTALL:-} pillow numpy onnxruntime
device/bin/python -c 'import importlib.util as found; assert not found.find_spec("torch")'
device/bin/python "$here/examples/device.py" detector/model.onnx "$photos"/*.* > scores
head -5 scores
test "$(wc -l < scores)" -ge 8
say "done: $work"
