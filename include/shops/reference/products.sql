SELECT
    products.product_id,
    products.updated_at,
    products.title,
    products.handle,
    (SELECT 'https://' || shop.domain || '/p/' FROM shop) || products.handle AS url,
    products.description,
    categories.name AS type,
    products.vendor,
    main_image.url AS image_url,
    products.published_at,
    products.deleted_at IS NOT NULL AS is_deleted
FROM products
LEFT JOIN categories ON categories.category_id = products.category_id
LEFT JOIN product_images AS main_image ON main_image.product_id = products.product_id AND main_image.position = 1
