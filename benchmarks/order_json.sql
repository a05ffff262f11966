-- The operations of a range of orders, one JSON text per row, built by PostgreSQL alone: the same documents as
-- include/transform/orders.py makes of the reference shop. Runs on every PostgreSQL that the project supports (14+).
WITH site AS MATERIALIZED (
    SELECT 'https://' || domain AS url FROM shop
)
SELECT
    json_build_object(
        'method', 'PUT',
        'path', %(collection)s || '/' || orders.order_id,
        'operation_id', %(token)s || '-' || (row_number() OVER (ORDER BY orders.order_id) - 1) %% %(operations)s,
        'body', json_strip_nulls(json_build_object(
            'id', orders.order_id::text,
            'customer', json_build_object('id', md5(lower(trim(customers.email)))),
            'campaign_id', orders.campaign_id,
            'cart_id', orders.cart_id::text,
            'landing_site', nullif(orders.landing_site, ''),
            'financial_status', statuses.financial,
            'fulfillment_status', statuses.fulfillment,
            'currency_code', orders.currency_code,
            'order_total', orders.order_total,
            'order_url', site.url || '/account/orders/' || orders.number,
            'discount_total', orders.discount_total,
            'tax_total', orders.tax_total,
            'shipping_total', orders.shipping_total,
            'tracking_code', orders.tracking_code,
            -- In JSON a timestamptz is ISO 8601 with the session's offset, which is +00:00.
            'processed_at_foreign', date_trunc('second', orders.placed_at),
            'cancelled_at_foreign', date_trunc('second', orders.cancelled_at),
            'updated_at_foreign', date_trunc('second', orders.updated_at),
            'shipping_address', CASE WHEN shipping.address_id IS NOT NULL THEN json_build_object(
                'name', nullif(shipping.name, ''),
                'address1', nullif(shipping.address1, ''),
                'address2', nullif(shipping.address2, ''),
                'city', nullif(shipping.city, ''),
                'province', nullif(shipping.province, ''),
                'province_code', nullif(shipping.province_code, ''),
                'postal_code', nullif(shipping.postal_code, ''),
                'country', nullif(shipping.country, ''),
                'country_code', nullif(shipping.country_code, ''),
                'phone', nullif(shipping.phone, ''),
                'company', nullif(shipping.company, '')
            ) END,
            'billing_address', CASE WHEN billing.address_id IS NOT NULL THEN json_build_object(
                'name', nullif(billing.name, ''),
                'address1', nullif(billing.address1, ''),
                'address2', nullif(billing.address2, ''),
                'city', nullif(billing.city, ''),
                'province', nullif(billing.province, ''),
                'province_code', nullif(billing.province_code, ''),
                'postal_code', nullif(billing.postal_code, ''),
                'country', nullif(billing.country, ''),
                'country_code', nullif(billing.country_code, ''),
                'phone', nullif(billing.phone, ''),
                'company', nullif(billing.company, '')
            ) END,
            'promos', promos.list,
            'lines', lines.list,
            'tracking_number', nullif(orders.tracking_number, ''),
            'tracking_carrier', nullif(orders.tracking_carrier, ''),
            'tracking_url', site.url || '/track/' || nullif(orders.tracking_number, '')
        ))::text
    )
FROM orders
CROSS JOIN site
-- The statuses that the reference profile sends; `pending` is not among them.
JOIN (
    VALUES
        ('paid', 'paid', NULL),
        ('shipped', 'paid', 'shipped'),
        ('completed', 'paid', 'delivered'),
        ('cancelled', 'cancelled', NULL),
        ('refunded', 'refunded', NULL)
) AS statuses (status, financial, fulfillment) ON statuses.status = orders.status
JOIN customers ON customers.customer_id = orders.customer_id
-- Of guests nobody is told where they live (setting guests).
LEFT JOIN addresses AS shipping ON shipping.address_id = orders.shipping_address_id AND NOT customers.is_guest
LEFT JOIN addresses AS billing ON billing.address_id = orders.billing_address_id AND NOT customers.is_guest
-- A subquery per order follows the primary key; grouping the whole range first takes as long (measured).
CROSS JOIN LATERAL (
    SELECT json_agg(
        json_build_object(
            'id', order_lines.line_id::text,
            -- What is gone is replaced by the placeholder product.
            'product_id', coalesce(existing.product_id::text, 'deleted-product'),
            'product_variant_id', coalesce(existing.variant_id::text, 'deleted-product'),
            'quantity', order_lines.quantity,
            'price', order_lines.price,
            'discount', order_lines.discount
        )
        -- By text, as the pipeline sorts lines: its ids need not be numbers.
        ORDER BY order_lines.line_id::text COLLATE "C"
    ) AS list
    FROM order_lines
    LEFT JOIN (
        variants AS existing
        JOIN products ON products.product_id = existing.product_id AND products.deleted_at IS NULL
    ) ON existing.variant_id = order_lines.variant_id AND existing.deleted_at IS NULL
    WHERE order_lines.order_id = orders.order_id
) AS lines
CROSS JOIN LATERAL (
    SELECT json_agg(
        json_build_object(
            'code', order_promotions.code,
            'type', order_promotions.type,
            'amount_discounted', order_promotions.amount_discounted
        )
        ORDER BY order_promotions.code COLLATE "C"
    ) AS list
    FROM order_promotions
    WHERE order_promotions.order_id = orders.order_id
) AS promos
WHERE orders.order_id BETWEEN %(first)s AND %(last)s
    AND orders.deleted_at IS NULL
ORDER BY orders.order_id
