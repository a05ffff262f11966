"""No address, name, phone number or company of a person where it has no business: logs, errors, XCom, state, URLs."""
