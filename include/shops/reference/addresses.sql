SELECT
    addresses.address_id,
    addresses.name,
    addresses.company,
    addresses.address1,
    addresses.address2,
    addresses.city,
    addresses.province,
    addresses.province_code,
    addresses.postal_code,
    addresses.country,
    addresses.country_code::text AS country_code,
    addresses.phone
FROM addresses
