-- The newest consent counts; without any, opted_in is null: unknown, neither yes nor no.
SELECT
    customers.customer_id,
    customers.updated_at,
    customers.email,
    customers.first_name,
    customers.last_name,
    customers.company,
    customers.phone,
    customers.default_address_id AS address_id,
    customers.is_guest,
    consent.opted_in,
    CASE WHEN consent.opted_in THEN consent.recorded_at END AS opted_in_at,
    CASE WHEN NOT consent.opted_in THEN consent.recorded_at END AS opted_out_at,
    CASE WHEN consent.opted_in THEN consent.source END AS opt_in_source,
    CASE WHEN consent.opted_in THEN consent.ip END AS opt_in_ip,
    customers.language,
    customers.deleted_at IS NOT NULL AS is_deleted
FROM customers
LEFT JOIN LATERAL (
    SELECT newsletter_consents.opted_in, newsletter_consents.recorded_at, newsletter_consents.source, newsletter_consents.ip
    FROM newsletter_consents
    WHERE newsletter_consents.customer_id = customers.customer_id
    ORDER BY newsletter_consents.recorded_at DESC, newsletter_consents.consent_id DESC
    LIMIT 1
) AS consent ON true
