SELECT
    shop.name,
    shop.currency_code::text AS currency_code,
    shop.domain,
    shop.email,
    shop.money_format,
    shop.primary_locale,
    shop.timezone,
    shop.phone,
    shop.address1,
    shop.city,
    shop.province,
    shop.province_code,
    shop.postal_code,
    shop.country,
    shop.country_code::text AS country_code
FROM shop
