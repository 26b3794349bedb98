"""What to do about each reason: a sentence or two of Markdown, for docs/errors.md and the page at /docs."""

REMEDIES = {
    "token_missing": "Send the header `api_token: YOUR_TOKEN`. Behind nginx or gunicorn, which drop headers "
    "with an underscore, send `Authorization: Bearer YOUR_TOKEN` or `x-api-key: YOUR_TOKEN`.",
    "token_invalid": "Check the token for missing characters; `foremask token list` shows which are good, "
    "`foremask token create` makes a new one.",
    "quota_exhausted": "Ask the operator for a token with a larger `--quota`.",
    "link_invalid": "Read the job's status again: it has a fresh link.",
    "path_unknown": "Check the path and the version in it: `POST /v2/video/segment/foreground_mask`.",
    "request_unknown": "Use the token that submitted the job; records go some time after results "
    "(`FOREMASK_RESULT_TTL`).",
    "method_not_allowed": "The `Allow` header of the answer names the methods.",
    "body_too_large": "Send the video's URL, not the video; files go through `POST /v2/video/upload`.",
    "content_type": "Send `Content-Type: application/json`.",
    "bad_json": "Send one JSON object in UTF-8, each key once.",
    "bad_form": "Send multipart/form-data: every pair of `upload_fields` first, the file as the last part.",
    "range_invalid": "Ask for bytes inside the file: `Content-Range` in the answer has its size.",
    "video_missing": "Add the field `video` with the clip's URL.",
    "video_invalid": "Give `video` one absolute URL, percent-encoded, of at most 8 KiB.",
    "preset_unknown": "Use one of the nine names; leave the field out for `mp4_h264`.",
    "field_invalid": "`param` names the field, `details` what it may be.",
    "webhook_invalid": "Use an http(s) URL on port 80 or 443 whose host has public addresses only, or let "
    "the operator open your network with `FOREMASK_ALLOW_PRIVATE`.",
    "precondition_failed": "Leave the condition out, or ask for the file's present `ETag` first.",
    "bad_http": "`details` says what cannot be read; the connection is closed after the answer.",
    "target_too_long": "Shorten path and query; a clip's URL belongs into the JSON body.",
    "headers_too_large": "Send fewer or shorter headers: cookies of other sites on the same host are the usual reason.",
    "request_too_slow": "Send the whole request without long pauses; a slow network can upload in a form.",
    "idempotency_mismatch": "Use a new `Idempotency-Key` for a new body; the old key keeps its answer.",
    "url_scheme": "Use an http or https URL.",
    "url_not_allowed": "Leave user name and password out of the URL, and use port 80 or 443; a signed URL "
    "carries its permission in the query.",
    "url_private": "Serve the clip from a public address, upload it with `POST /v2/video/upload`, or let "
    "the operator open your network with `FOREMASK_ALLOW_PRIVATE`.",
    "url_unreachable": "Open the URL from another network: `details` says whether name, connection, TLS, "
    "time or redirects were the matter.",
    "url_too_slow": "Serve the clip from a faster host, or upload it with `POST /v2/video/upload`; the operator sets "
    "the least speed with `FOREMASK_MIN_BYTES_PER_SECOND`.",
    "url_forbidden": "Make the file public, or use a signed URL that is valid for long enough.",
    "url_status": "Open the URL in a browser without cookies: the origin does not have the file there.",
    "not_a_video": "Use the address of the file itself, not of the page that shows it.",
    "file_too_large": "Send a smaller file: a lower bitrate hardly changes the mask.",
    "resolution_too_large": "Scale the clip down; neither side may be over the limit.",
    "preset_cannot": "Use one of the presets that `details` names.",
    "duration_too_long": "Cut the clip; `foremask mask` on the command line has no limit.",
    "too_many_frames": "Lower the frame rate: `ffmpeg -i clip.mp4 -r 60 new.mp4`; the operator sets the limit with "
    "`FOREMASK_MAX_FRAMES`.",
    "empty_file": "Check the upload that made the file: it has no bytes.",
    "no_frames": "Check the export that made the file: its video track is empty.",
    "container_unsupported": "Send mp4, mov, webm, avi or gif. To change the box without touching the "
    "picture: `ffmpeg -i clip.mkv -c copy clip.mp4`.",
    "codec_unsupported": "Send H.264, HEVC, VP9, AV1, Photo-JPEG or gif: `ffmpeg -i clip.mov -c:v libx264 "
    "-crf 16 clip.mp4`.",
    "no_video_stream": "The file has sound, or a cover picture, and no video.",
    "corrupt": "Play the file to its end elsewhere; where it breaks, `details` says. `ffmpeg -i clip.mp4 -c "
    "copy new.mp4` mends many.",
    "encrypted": "Send a copy without protection.",
    "rate_limited": "Wait for `Retry-After` seconds; the `RateLimit-` headers say how much is left.",
    "too_many_jobs": "Wait until one of your jobs has ended, or cancel one.",
    "queue_full": "Wait for `Retry-After` seconds; the operator may add workers.",
    "storage_quota": "Wait until jobs with large clips have ended and old uploads and results have expired; the "
    "operator sets the quota with `FOREMASK_STORAGE_PER_TOKEN`.",
    "overloaded": "Wait for `Retry-After` seconds and send the same request again.",
    "storage_full": "Wait for `Retry-After` seconds; the operator makes room, or adds disk space.",
    "cancelled": "Nothing: somebody with your token asked for it.",
    "result_expired": "Submit the clip again, or let the operator keep results for longer (`FOREMASK_RESULT_TTL`).",
    "timed_out": "Try once more; if it happens again, send a shorter or smaller clip, or `fast`.",
    "worker_crashed": "Tell the operator the `request_id`: this clip ends the process that works on it.",
    "object_lost": "Submit the job again; the operator should look after the object store.",
    "unavailable": "Try again in a moment: the database or the object store does not answer.",
    "internal": "Tell the operator the `request_id`; the log has the rest.",
    "model_unavailable": "Do what `details` says; [models.md](models.md) has the whole story, and the way "
    "for machines without a network.",
    "output_failed": "Free space, choose a directory that may be written to or a name that is not taken, or say --force.",
    "settings_invalid": "[settings.md](settings.md) lists all names and their values.",
    "promise_broken": "Keep both files and [report it](../CONTRIBUTING.md): this must not happen with a "
    "mask that foremask made.",
}
