"""Holds requests of the connector `ses` against botocore: the model of the API, what botocore would send, and how it would sign that.

Reads {"settings", "requests": [{"method", "url", "headers", "body"}]}, and writes for each what is wrong, or "". Nothing is sent.
"""

import base64
import json
import sys
from urllib.parse import urlsplit

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

MODEL = botocore.session.get_session().get_service_model("sesv2")
SEND_EMAIL = MODEL.operation_model("SendEmail")


def shape(request):
    """Members that are unknown or missing, wrong types, and what botocore makes of the same parameters."""
    given = json.loads(request["body"])
    # What is binary travels in base64.
    raw = given["Content"]["Raw"]
    raw["Data"] = base64.b64decode(raw["Data"], validate=True)
    report = ParamValidator().validate(given, SEND_EMAIL.input_shape)
    if report.has_errors():
        return report.generate_report()
    theirs = create_serializer(MODEL.metadata["protocol"]).serialize_to_request(given, SEND_EMAIL)
    ours = (request["method"], urlsplit(request["url"]).path, json.loads(request["body"]))
    if ours != (theirs["method"], theirs["url_path"], json.loads(theirs["body"])):
        return f"botocore sends {theirs['method']} {theirs['url_path']} {theirs['body']!r}"
    return ""


def signature(request, settings):
    """Another signature than botocore's over the same headers, at the time that the request says."""
    headers = request["headers"]
    names = [name for name in headers if name == "content-type" or name.startswith("x-amz-")]
    asked = AWSRequest(
        method=request["method"],
        url=request["url"],
        data=request["body"].encode(),
        headers={"host": urlsplit(request["url"]).netloc, **{name: headers[name] for name in names}},
    )
    asked.context["timestamp"] = headers["x-amz-date"]
    key = Credentials(settings["access_key_id"], settings["secret_access_key"])
    signer = SigV4Auth(key, "ses", settings["region"])
    theirs = signer.signature(signer.string_to_sign(asked, signer.canonical_request(asked)), asked)
    return "" if headers["authorization"].endswith(f"Signature={theirs}") else "botocore signs it otherwise"


asked = json.load(sys.stdin)
json.dump([shape(request) or signature(request, asked["settings"]) for request in asked["requests"]], sys.stdout)
