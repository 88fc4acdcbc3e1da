from hypothesis import settings

# No deadline: small machines stall. The blob reproduces a failing case.
settings.register_profile("caesura", deadline=None, print_blob=True)
settings.load_profile("caesura")
